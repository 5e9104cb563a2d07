package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// statuses are the status codes that count as well, as -status names them: codes and ranges, such as 200,301-308.
type statuses []span

// A span has all codes from its first to its last.
type span struct{ first, last int }

func (all statuses) has(code int) bool {
	for _, some := range all {
		if some.first <= code && code <= some.last {
			return true
		}
	}
	return false
}

// String is the inverse of Set.
func (all statuses) String() string {
	var words []string
	for _, some := range all {
		word := strconv.Itoa(some.first)
		if some.last != some.first {
			word += "-" + strconv.Itoa(some.last)
		}
		words = append(words, word)
	}
	return strings.Join(words, ",")
}

// Set is for package flag. If -status is given twice, the last one counts.
func (all *statuses) Set(text string) error {
	var found statuses
	for _, word := range strings.Split(text, ",") {
		first, last, isRange := strings.Cut(word, "-")
		if !isRange {
			last = first
		}
		from, err := status(first)
		if err != nil {
			return err
		}
		to, err := status(last)
		if err != nil {
			return err
		}
		if from > to {
			return fmt.Errorf("%s ends before it begins", word)
		}
		found = append(found, span{from, to})
	}
	*all = found
	return nil
}

var errStatus = errors.New("a status has three digits, as in 200 or 200-299 or 200,401")

func status(text string) (int, error) {
	code, err := strconv.Atoi(text)
	if err != nil || code < 100 || code > 999 {
		return 0, errStatus
	}
	return code, nil
}
