"""Faces drawn by code: the embedded data set, so that the pipeline runs offline and shows no person's image.

`person` says how a person looks at an age, `pen`, `head`, `features` and `hair` draw it, `scene` sets pose, light and
background, `folder` writes an IMDB-WIKI folder of it and `sheet` a picture for the eye.
"""
