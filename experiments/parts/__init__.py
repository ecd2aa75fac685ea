"""Every part of a run, checked against an independent reference, and what it costs per step."""
