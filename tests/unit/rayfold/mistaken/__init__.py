"""A domain with a mistake of every kind; `test_mistakes.py` has the sentence for each."""
