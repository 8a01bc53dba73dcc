"""One worker: its process and what runs in it, the messages, and the supervisor's view of it."""
