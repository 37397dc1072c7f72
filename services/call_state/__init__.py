"""Call State: call threads folded from events."""
