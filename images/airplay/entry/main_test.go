package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestANameIsTakenOrRefused(t *testing.T) {
	for name, good := range map[string]bool{
		"Kitchen": true, "Küche": true, strings.Repeat("a", 50): true,
		"": false, strings.Repeat("a", 51): false, "\xff": false,
	} {
		if err := check(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestEachWaitsForTheOneBeforeAndAllEndWithTheFirst(t *testing.T) {
	file := filepath.Join(t.TempDir(), "there")
	err := serve(
		program{words: []string{"/bin/sh", "-c", "sleep 0.2; touch " + file + "; exec sleep 60"}, makes: file},
		program{words: []string{"/bin/sh", "-c", "test -e " + file + " && exit 3"}})
	if err == nil || err.Error() != "sh ended with 3" {
		t.Error(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

func TestAProgramThatIsNotThereIsAnError(t *testing.T) {
	began := time.Now()
	if err := serve(program{words: []string{"/nowhere/program"}}); err == nil || !strings.Contains(err.Error(), "/nowhere/program") {
		t.Error(err)
	}
	if time.Since(began) > limit/2 {
		t.Error("it waited for nothing")
	}
}
