"""What Git says a cluster should hold: manifests read, rendered and checked."""
