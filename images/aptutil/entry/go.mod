module desimages/aptutil-entry

go 1.26
