"""Personal data on the log: values encrypted with a key for each subject, and the keys."""
