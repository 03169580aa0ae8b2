"""Personal data on the log: values encrypted under a key of each subject, and what keeps the keys."""
