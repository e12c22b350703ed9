"""What is trained: ages and genders, or a face detector; and how its run ends."""
