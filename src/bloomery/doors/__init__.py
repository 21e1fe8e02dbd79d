"""The front doors: each translates for one kind of caller and holds no rule of its own."""
