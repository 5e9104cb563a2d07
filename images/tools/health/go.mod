module desimages/health

go 1.26
