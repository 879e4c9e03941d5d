"""Links to an engine that runs beside the event loop: in a thread, or in a process of its own."""
