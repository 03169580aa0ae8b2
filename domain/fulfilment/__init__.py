"""Fulfilment: from an order that was placed to its shipment, or to its compensation."""
