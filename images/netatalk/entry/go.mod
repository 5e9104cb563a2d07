module desimages/netatalk-entry

go 1.26
