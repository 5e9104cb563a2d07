package main

import (
	"cmp"
	"strings"
)

// settings are what a new cluster begins with.
type settings struct {
	user, database, password string
}

// read takes the settings from the environment. The error has all mistakes.
func read(get func(string) string, file func(string) ([]byte, error)) (settings, error) {
	found := settings{user: cmp.Or(get("POSTGRES_USER"), "postgres"), password: get("POSTGRES_PASSWORD")}
	found.database = cmp.Or(get("POSTGRES_DB"), found.user)
	var mistakes []string
	if name := get("POSTGRES_PASSWORD_FILE"); name != "" && found.password != "" {
		mistakes = append(mistakes, "POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are both set: which one counts?")
	} else if name != "" {
		text, err := file(name)
		if err != nil {
			mistakes = append(mistakes, "POSTGRES_PASSWORD_FILE: "+err.Error())
		}
		found.password = strings.TrimRight(string(text), "\r\n")
	}
	switch {
	case len(mistakes) > 0:
	case found.password == "":
		mistakes = append(mistakes, "there is no database yet, and no password for its first user: set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE")
	case strings.ContainsAny(found.password, "\n\x00"):
		mistakes = append(mistakes, "the password must be one line")
	}
	for _, given := range [][2]string{{"POSTGRES_USER", found.user}, {"POSTGRES_DB", found.database}} {
		if len(given[1]) > 63 || strings.ContainsAny(given[1], "\n\r\x00") {
			mistakes = append(mistakes, given[0]+" must be one line of at most 63 bytes")
		}
	}
	if strings.HasPrefix(found.user, "pg_") {
		mistakes = append(mistakes, "POSTGRES_USER must not begin with pg_, which PostgreSQL keeps for itself")
	}
	if len(mistakes) > 0 {
		return found, refusal(strings.Join(mistakes, "; "))
	}
	return found, nil
}

// quoted is a name in SQL.
func quoted(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
