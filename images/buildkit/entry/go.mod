module desimages/buildkit-entry

go 1.26
