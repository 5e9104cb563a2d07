module desimages/airplay-entry

go 1.26
