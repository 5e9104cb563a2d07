package main

import (
	"errors"
	"net"
	"os"
	"slices"
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
	if name != "/users" {
		return nil, errors.New("open " + name + ": no such file")
	}
	return []byte("# of the family\nalice:it's: a secret \r\n\nbob:x"), nil
}

func TestUsersAreTaken(t *testing.T) {
	want := []user{{"alice", "it's: a secret "}, {"bob", "x"}}
	for _, given := range []string{"USERS_FILE=/users", "USERS=alice:it's: a secret \nbob:x\n"} {
		if users, err := read(environment(given), file); err != nil || !slices.Equal(users, want) {
			t.Errorf("%s: %v, %v", given, users, err)
		}
	}
	if text := string(passwd(want, 7)); text != "alice:x:7:7:alice:/data:/bin/sh\nbob:x:7:7:bob:/data:/bin/sh\n" {
		t.Error(text)
	}
}

func TestWhatCannotBeUsedIsRefusedWithAllMistakesAndNoPassword(t *testing.T) {
	for _, test := range []struct {
		given []string
		says  []string
	}{
		{nil, []string{"there are no users"}},
		{[]string{"USERS=\n# none\n"}, []string{"there are no users"}},
		{[]string{"USERS=a:b", "USERS_FILE=/users"}, []string{"both set"}},
		{[]string{"USERS_FILE=/none"}, []string{"USERS_FILE: open /none"}},
		{[]string{"USERS=secret\nA:secret\nalice:\nroot:secret\nbob:secret\nbob:secret"},
			[]string{"line 1 must be", "line 2 must be", "line 3: alice needs a password", "line 4: root is", "line 6: bob is there twice"}},
	} {
		_, err := read(environment(test.given...), file)
		var mistakes refusal
		if !errors.As(err, &mistakes) || len(mistakes) != len(test.says) {
			t.Errorf("%v: %v", test.given, err)
			continue
		}
		for number, says := range test.says {
			if !strings.Contains(mistakes[number], says) || strings.Contains(mistakes[number], "secret") {
				t.Errorf("%v: %q does not say %q", test.given, mistakes[number], says)
			}
		}
	}
}

func TestTheFoldersOfSharesAreThoseOnTheVolumeThatHaveOneName(t *testing.T) {
	text, err := os.ReadFile("../config/afp.conf")
	if err != nil {
		t.Fatal(err)
	}
	if found := shares(string(text)); !slices.Equal(found, []string{"/data/share", "/data/timemachine"}) {
		t.Error(found)
	}
	if found := shares("path = /data/$u\n; path = /data/a\npath = /elsewhere\n\tpath=/data/b c/ \n"); !slices.Equal(found, []string{"/data/b c"}) {
		t.Error(found)
	}
}

// answer is what a server says to question(): a header, and a status that has two versions and a way to log in.
func answer(change func([]byte)) []byte {
	status := []byte("\x00\x00\x00\x08\x00\x12\x00\x00" + "\x02\x04AFP1\x03AP2" + "\x01\x04DHX2")
	said := make([]byte, 16, 16+len(status))
	said[0], said[1], said[3], said[11] = 1, getStatus, 1, byte(len(status))
	said = append(said, status...)
	change(said)
	return said
}

func TestOnlyAServerThatSpeaksAFPIsHealthy(t *testing.T) {
	for name, test := range map[string]struct {
		said []byte
		says string
	}{
		"well":            {answer(func([]byte) {}), ""},
		"error":           {answer(func(said []byte) { said[7] = 5 }), "the error 5"},
		"other answer":    {answer(func(said []byte) { said[3] = 2 }), "does not speak"},
		"not AFP":         {[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), "does not speak"},
		"short":           {[]byte("220 "), "EOF"},
		"shorter status":  {answer(func([]byte) {})[:20], "EOF"},
		"list far away":   {answer(func(said []byte) { said[16+2] = 9 }), "cut off"},
		"names cut off":   {answer(func(said []byte) { said[16+8+1] = 200 }), "cut off"},
		"no way to login": {answer(func(said []byte) { said[16+18] = 0 }), "cut off"},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			got := make([]byte, len(question()))
			if _, err := connection.Read(got); err == nil {
				connection.Write(test.said)
			}
			connection.Close()
		}()
		said, err := healthy(listener.Addr().String())
		listener.Close()
		if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && said != "AFP1, AP2, DHX2" {
			t.Errorf("%s: %q", name, said)
		}
	}
	if _, err := healthy("127.0.0.1:1"); err == nil {
		t.Error("nobody is healthy")
	}
}

func TestAPasswordIsHashedByCrypt(t *testing.T) {
	if _, err := os.Stat("/usr/bin/perl"); err != nil {
		t.Skip("no perl")
	}
	one, err := hashed("it's: a secret")
	if err != nil {
		t.Fatal(err)
	}
	other, err := hashed("it's: a secret")
	if err != nil || one == other || len(one) != len(other) {
		t.Error(one, other, err)
	}
}
