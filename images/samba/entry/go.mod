module desimages/samba-entry

go 1.26
