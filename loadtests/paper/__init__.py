"""Calculates and simulates growth: what fills up first, based on measurements of one machine."""
