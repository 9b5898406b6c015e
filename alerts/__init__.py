"""From findings to notifications that arrive.

In: `detector.finding.Finding`. Out: incidents, findings that share a cause, with a likely root
and a life; stored durably before they are sent, and delivered at least once to every receiver
under a stable id.

The surface, by module:

* `alerts.grouping`: `Incidents`, findings in and incidents out: `update(window, findings,
  triggers)` gives `Change`s, `to_bytes()` the state; it rests on `graph`, `relation`, `case`,
  `life`, `blame`, `impact` and `telling`.
* `alerts.incident`: `Incident`, `Root`, `Trigger`; public forms from and to JSON.
* `alerts.store`: `Store.open(state_dir, read_only=False)`; the daemon's `commit(findings,
  snapshot=, now=, incidents=, grouping=)`, `snapshot()`, `orphans(known, now=)`, `prune(now=)`;
  a reader's (`alerts.reader`) `findings(…)`, `finding(id_prefix)`, `incidents(…)`,
  `incident(id_prefix)`, `outbox.health()`, `outbox.deliveries(state="dropped")`.
* `alerts.budget`: `Budget`, for `Store.keep_to`: what is told at once, what waits, what is listed.
* `alerts.aftermath`: `Aftermath`, which findings lasted; `alerts.feed`: `Feed`, the changes that
  are shown and not told. Both go into `Store.commit`.
* `alerts.ledger`: `give_verdict(state_dir, id, "confirmed" | "dismissed", now=)`, beside a daemon.
* `alerts.deliver`: `Deliverer(store, receivers)` with `start()`, `wake()` after each commit,
  `stop(timeout_s)`, `health()`; `Backoff`.
* `alerts.receivers`: `make_receiver(settings)`.
* `alerts.trial`: `send_test(settings)`, for `tailrace alert test`.
* `alerts.words`: findings in words, shared with the report.
* `alerts.errors`: `StoreError` and `DeliveryError`, each with a short reason.
* `alerts.settings`: `ReceiverSettings`.
"""
