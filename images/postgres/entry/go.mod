module desimages/postgres-entry

go 1.26
