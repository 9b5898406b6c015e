"""Configurations as users write them: one of many settings, and the start of a receiver."""

FULL = """\
[probes]
window = "500ms"
hooks = "tracepoint"
overhead_budget = "1.25 %"
reverse_dns = true
max_pairs = 500
[detector]
false_alerts = "2/day"
warmup = 90
[detector.min_change]
requests = "50 %"
ratio = "2%"
[[alerts.receivers]]
name = "on-call"
type = "webhook"
url = "https://user:word@example.com/hooks/T0P?key=s3cret"
secret_file = "webhook.secret"
[[alerts.receivers]]
name = "team"
type = "slack"
token_file = "/etc/tailrace/slack.token"
channel = "#alerts"
[[services]]
name = "billing"
command = "*-m billing.*"
labels = { app = "b*" }
port = 8080
[[services]]
name = "provider"
address = "203.0.113.0/24"
"""

HOOK = '[[alerts.receivers]]\nname = "a"\ntype = "webhook"\n'
