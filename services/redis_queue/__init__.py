"""Redis Queue: event streams and queues on Redis Streams."""
