module desimages/goproxy-entry

go 1.26
