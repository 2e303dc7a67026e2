"""Trainings that a function of this process makes, from live objects: a notebook's cell, a closure, an own trainer."""
