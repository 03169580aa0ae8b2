"""Tools for authors of a domain: begin one, try changes, and judge a release."""
