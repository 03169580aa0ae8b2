"""`rayfold counterfactual`: recorded commands, decided again by the code at hand."""
