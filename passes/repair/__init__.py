"""Repair: what passes did to a model is made up for, as far as the weights of its layers can."""
