"""Rounding by what it does to the outputs of a layer, from second moments of its inputs."""
