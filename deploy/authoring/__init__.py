"""What helps who writes a domain: to begin one, to try changes, and to judge a release."""
