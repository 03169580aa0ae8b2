"""Orders: from the first line to the shipment."""
