"""How a mouth is drawn: exemplars, the two layers, the warp, and the plan they follow."""
