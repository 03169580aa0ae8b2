"""Personal data on the log: values encrypted under a key of each subject, and the keys."""
