"""What a job is confined by, and the proof at each start that it holds."""
