"""From findings to notifications that arrive.

In: `detector.finding.Finding`. Out: alerts with a life (firing, resolved), stored durably
before they are sent, and delivered at least once to every receiver under a stable id.
"""
