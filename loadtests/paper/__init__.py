"""Growth on paper and by simulation: what fills first, from what was measured on one machine."""
