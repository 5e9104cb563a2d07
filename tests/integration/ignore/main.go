// Prints what BuildKit's own code makes of ignore files. Reads [{"text": ..., "paths": [...]}, ...]; a folder stands
// before what is in it. For each case: whether a pattern is bad, and of each path whether the walk leaves it out, and
// whether opening it is refused.
package main

import (
	"encoding/json"
	"os"
	"path"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

type question struct {
	Text  string   `json:"text"`
	Paths []string `json:"paths"`
}

type answer struct {
	Bad    bool            `json:"bad"`
	Out    map[string]bool `json:"out"`
	Closed map[string]bool `json:"closed"`
}

// bad says whether any pattern cannot be compiled, also where none of the paths would have it looked at.
func bad(patterns []string) bool {
	for _, pattern := range patterns {
		// so that it is looked at, with a ! and without
		alone, err := patternmatcher.New([]string{"**", pattern, "!**", pattern})
		if err != nil {
			return true
		}
		if _, err := alone.MatchesOrParentMatches("x"); err != nil {
			return true
		}
	}
	_, err := patternmatcher.New(patterns)
	return err != nil
}

func ask(q question) answer {
	found := answer{Out: map[string]bool{}, Closed: map[string]bool{}}
	patterns, err := ignorefile.ReadAll(strings.NewReader(q.Text))
	if err != nil || bad(patterns) {
		found.Bad = true
		return found
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		panic(err)
	}
	seen := map[string]patternmatcher.MatchInfo{}
	for _, each := range q.Paths {
		out, info, err := matcher.MatchesUsingParentResults(each, seen[path.Dir(each)])
		if err != nil {
			panic(err)
		}
		closed, err := matcher.MatchesOrParentMatches(each)
		if err != nil {
			panic(err)
		}
		seen[each], found.Out[each], found.Closed[each] = info, out, closed
	}
	return found
}

func main() {
	var questions []question
	if err := json.NewDecoder(os.Stdin).Decode(&questions); err != nil {
		panic(err)
	}
	answers := []answer{}
	for _, each := range questions {
		answers = append(answers, ask(each))
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		panic(err)
	}
}
