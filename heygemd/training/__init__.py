"""How the shipped lips network is made: synthesized speech, targets, recipe."""
