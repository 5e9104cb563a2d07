package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// As useradd(8) wants them.
var names = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

type user struct{ name, password string }

// A refusal is an error that a person's settings are the cause of: all mistakes, and no password.
type refusal []string

func (mistakes refusal) Error() string { return strings.Join(mistakes, "; ") }

// read takes the users from the environment, or from the file that it names.
func read(get func(string) string, file func(string) ([]byte, error)) ([]user, error) {
	text, where := get("USERS"), "USERS"
	if name := get("USERS_FILE"); name != "" {
		if text != "" {
			return nil, refusal{"USERS and USERS_FILE are both set: say it once"}
		}
		read, err := file(name)
		if err != nil {
			return nil, refusal{"USERS_FILE: " + err.Error()}
		}
		text, where = string(read), "USERS_FILE"
	}
	var users []user
	var mistakes refusal
	taken := map[string]bool{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, password, found := strings.Cut(line, ":")
		switch {
		case !found || !names.MatchString(name): // what is no name may be a password
			mistakes = append(mistakes, fmt.Sprintf("%s: line %d must be NAME:PASSWORD, with a name of small letters, digits, _ and -", where, number))
		case name == "root" || name == "desimages":
			mistakes = append(mistakes, fmt.Sprintf("%s: line %d: %s is a user of the image itself", where, number, name))
		case taken[name]:
			mistakes = append(mistakes, fmt.Sprintf("%s: line %d: %s is there twice", where, number, name))
		case password == "" || len(password) > 127 || strings.ContainsAny(password, "\x00"):
			mistakes = append(mistakes, fmt.Sprintf("%s: line %d: %s needs a password of 1 to 127 bytes", where, number, name))
		}
		taken[name] = true
		users = append(users, user{name, password})
	}
	switch {
	case len(mistakes) > 0:
		return nil, mistakes
	case len(users) == 0:
		return nil, refusal{"there are no users: set USERS_FILE, or USERS, to lines of NAME:PASSWORD"}
	}
	return users, nil
}

// passwd has all users under one number, the owner of the files. Their passwords are in shadow. Whom /etc/shells does not
// let log in, afpd does not.
func passwd(users []user, owner int) []byte {
	var out bytes.Buffer
	for _, one := range users {
		fmt.Fprintf(&out, "%s:x:%d:%d:%s:/data:/bin/sh\n", one.name, owner, owner, one.name)
	}
	return out.Bytes()
}

var paths = regexp.MustCompile(`(?m)^[ \t]*path[ \t]*=[ \t]*(/data/[^$\n]*?)[ \t]*$`)

// shares are the folders on the volume that afp.conf shares and that are the same for everybody.
func shares(text string) []string {
	var found []string
	for _, match := range paths.FindAllStringSubmatch(text, -1) {
		found = append(found, filepath.Clean(match[1]))
	}
	return found
}
