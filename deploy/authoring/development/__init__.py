"""`rayfold dev`: a stack that takes up what is changed in its code."""
