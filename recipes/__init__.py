"""Recipes: plain Python on the public API of metta-jobs. Each public function returns a tool for `metta run`."""
