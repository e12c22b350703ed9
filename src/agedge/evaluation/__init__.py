"""How far a model's ages and genders are from the labels, by age band, and how sure its intervals are."""
