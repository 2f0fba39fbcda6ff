"""What a reference to a secret names: resolved at the moment of use, masked on every surface from then on."""
