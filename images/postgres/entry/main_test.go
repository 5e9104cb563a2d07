package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func environment(words ...string) func(string) string {
	given := map[string]string{}
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		given[name] = value
	}
	return func(name string) string { return given[name] }
}

func file(name string) ([]byte, error) {
	if name == "/secret" {
		return []byte("from a file\n"), nil
	}
	return nil, errors.New(name + " is not there")
}

func TestSettingsHaveDefaults(t *testing.T) {
	for _, test := range []struct {
		given []string
		want  settings
	}{
		{[]string{"POSTGRES_PASSWORD=x"}, settings{"postgres", "postgres", "x"}},
		{[]string{"POSTGRES_PASSWORD=x", "POSTGRES_USER=me"}, settings{"me", "me", "x"}},
		{[]string{"POSTGRES_PASSWORD_FILE=/secret", "POSTGRES_USER=me", "POSTGRES_DB=shop"}, settings{"me", "shop", "from a file"}},
	} {
		if found, err := read(environment(test.given...), file); err != nil || found != test.want {
			t.Errorf("%v: %+v, %v", test.given, found, err)
		}
	}
}

func TestWhatCannotBeUsedIsRefusedWithAllMistakes(t *testing.T) {
	long := strings.Repeat("x", 64)
	for _, test := range []struct {
		given []string
		says  []string
	}{
		{nil, []string{"set POSTGRES_PASSWORD or"}},
		{[]string{"POSTGRES_PASSWORD=x", "POSTGRES_PASSWORD_FILE=/secret"}, []string{"both set"}},
		{[]string{"POSTGRES_PASSWORD_FILE=/gone", "POSTGRES_USER=pg_me"}, []string{"/gone is not there", "begin with pg_"}},
		{[]string{"POSTGRES_PASSWORD=a\nb", "POSTGRES_DB=" + long}, []string{"one line", "POSTGRES_DB must be"}},
	} {
		_, err := read(environment(test.given...), file)
		if refused := (refusal)(""); !errors.As(err, &refused) {
			t.Errorf("%v: %v", test.given, err)
			continue
		}
		for _, says := range test.says {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%v: %q does not say %q", test.given, err, says)
			}
		}
	}
}

func TestOnlyAnEmptyPlaceGetsANewCluster(t *testing.T) {
	for _, test := range []struct {
		files map[string]string
		there bool
		says  string
	}{
		{nil, false, ""},
		{map[string]string{"lost+found/x": ""}, false, ""},
		{map[string]string{"17/PG_VERSION": "17\n"}, true, ""},
		{map[string]string{"17.begun/PG_VERSION": "17\n"}, false, ""},
		{map[string]string{"17/PG_VERSION": "16\n"}, false, "has data of PostgreSQL 16, this is 17"},
		{map[string]string{"16/PG_VERSION": "16\n"}, false, "/16 has a database cluster"},
		{map[string]string{"17/thesis": ""}, false, "has files, but no database cluster"},
	} {
		folder := t.TempDir()
		for name, text := range test.files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		there, err := cluster(filepath.Join(folder, "17"))
		if there != test.there || test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%v: %v, %v", test.files, there, err)
		}
	}
}

func TestNamesAreQuoted(t *testing.T) {
	if found := quoted(`a"; DROP`); found != `"a""; DROP"` {
		t.Error(found)
	}
}
