"""A look: what is there, how it is judged, and the step that would bring each key to what is wanted."""
