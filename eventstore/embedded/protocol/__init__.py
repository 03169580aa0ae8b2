"""What all other rooms speak: the protocol's numbers and errors, a call, an event as bytes."""
