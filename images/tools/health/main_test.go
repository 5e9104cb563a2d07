package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestExitCodeSaysWhoIsToBlame(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(answer))
	defer web.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(answer))
	defer secure.Close()
	address := strings.TrimPrefix(web.URL, "http://")
	dns := serveDNS(t)
	nobody := unusedAddress(t)
	silent := serve(t, "")
	ssh := serve(t, "SSH-2.0-OpenSSH_10.0\r\n")
	half := serve(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n")
	rtsp := "rtsp://" + serveRTSP(t)
	silentDNS, garbledDNS, halfDNS := answerDNS(t, nil), answerDNS(t, garbled), answerDNS(t, halved)

	for _, test := range []struct {
		args string
		code int
		says string // in stderr
	}{
		{"http " + web.URL, healthy, ""},
		{"http " + secure.URL, healthy, ""},
		{"http -status 204 " + web.URL + "/204", healthy, ""},
		{"http " + web.URL + "/204 -status 204", healthy, ""},
		{"http -status 302 " + web.URL + "/redirect", healthy, ""},
		{"http -status 200-299 " + web.URL + "/204", healthy, ""},
		{"http -status 200,300-399 " + web.URL + "/redirect", healthy, ""},
		{"http -status 204 -status 503 " + web.URL + "/503", healthy, ""},
		{"http " + web.URL + "/503", unhealthy, "/503 answered 503 Service Unavailable, not 200\n"},
		{"http -status 200-299,401 " + web.URL + "/503", unhealthy, "not 200-299,401\n"},
		{"http -status 500 " + web.URL, unhealthy, "answered 200 OK, not 500"},
		{"http " + web.URL + "/redirect", unhealthy, "answered 302 Found, not 200"},
		{"http " + web.URL + "/cut", unhealthy, "unexpected EOF"},
		{"http http://" + half, unhealthy, "unexpected EOF"},
		{"http http://" + ssh, unhealthy, "malformed HTTP"},
		{"http -timeout 50ms " + web.URL + "/slow", unhealthy, "deadline exceeded"},
		{"http -timeout 50ms http://" + silent, unhealthy, "deadline exceeded"},
		{"http -timeout 50ms https://" + silent, unhealthy, "deadline exceeded"},
		{"http https://" + address, unhealthy, "server gave HTTP response to HTTPS client"},
		{"http http://" + nobody, unhealthy, "connection refused"},

		{"tcp " + address, healthy, ""},
		{"tcp " + nobody, unhealthy, "connection refused"},
		{"tcp -timeout 50ms " + full(t), unhealthy, "i/o timeout"},

		{"dns -server " + dns + " desimages.example", healthy, ""},
		{"dns -server " + dns + " nowhere.example", unhealthy, "lookup nowhere.example. on " + dns + ": no such host"},
		{"dns -server " + nobody + " -timeout 200ms desimages.example", unhealthy, nobody},
		{"dns -server " + dns + " localhost", unhealthy, "no such host"}, // /etc/hosts knows it
		{"dns -server " + silentDNS + " -timeout 50ms desimages.example", unhealthy, "timeout"},
		{"dns -server " + garbledDNS + " -timeout 50ms desimages.example", unhealthy, "timeout"}, // may be a forgery: not heard
		{"dns -server " + halfDNS + " desimages.example", unhealthy, "cannot unmarshal DNS message"},

		{"rtsp " + rtsp, healthy, ""},
		{"rtsp " + rtsp + "/", healthy, ""},
		{"rtsp " + rtsp + "/stream?track=1", healthy, ""},
		{"rtsp " + rtsp + "/described", healthy, ""},
		{"rtsp " + rtsp + "/nothing", unhealthy, "/nothing answered 404 Stream Not Found, not 200-299\n"},
		{"rtsp -status 401,404 " + rtsp + "/nothing", healthy, ""},
		{"rtsp -status 404 " + rtsp, unhealthy, "answered 200 OK, not 404"},
		{"rtsp " + rtsp + "/cut-line", unhealthy, "unexpected EOF"},
		{"rtsp " + rtsp + "/cut-header", unhealthy, "unexpected EOF"},
		{"rtsp " + rtsp + "/cut-body", unhealthy, "unexpected EOF"},
		{"rtsp " + rtsp + "/endless", unhealthy, "unexpected EOF"},
		{"rtsp " + rtsp + "/long", unhealthy, `Content-Length "long" is no number`},
		{"rtsp rtsp://" + address, unhealthy, `"HTTP/1.1 400 Bad Request" is no answer in RTSP/1.0`},
		{"rtsp rtsp://" + ssh, unhealthy, `"SSH-2.0-OpenSSH_10.0" is no answer in RTSP/1.0`},
		{"rtsp -timeout 50ms rtsp://" + silent, unhealthy, "i/o timeout"},
		{"rtsp -timeout 50ms rtsp://" + full(t), unhealthy, "i/o timeout"},
		{"rtsp rtsp://" + nobody, unhealthy, "connection refused"},

		{"", misused, "say http, tcp, dns or rtsp"},
		{"icmp 127.0.0.1", misused, `"icmp" is not http, tcp, dns or rtsp`},
		{"http", misused, "http takes one argument, not 0"},
		{"http " + web.URL + " " + web.URL, misused, "http takes one argument, not 2"},
		{"http ftp://127.0.0.1", misused, "not an http or https URL"},
		{"http 127.0.0.1:80/health", misused, "first path segment in URL cannot contain colon"},
		{"http -status ok " + web.URL, misused, `invalid value "ok" for flag -status`},
		{"http -status 20 " + web.URL, misused, "three digits"},
		{"http -status 200, " + web.URL, misused, "three digits"},
		{"http -status 200-2000 " + web.URL, misused, "three digits"},
		{"http -status 299-200 " + web.URL, misused, "299-200 ends before it begins"},
		{"http -timeout 0s " + web.URL, misused, "leaves no time"},
		{"tcp -status 200 " + address, misused, "flag provided but not defined: -status"},
		{"tcp 127.0.0.1", misused, "missing port in address"},
		{"rtsp http://127.0.0.1", misused, "not an rtsp URL"},
		{"rtsp rtsp:///stream", misused, "not an rtsp URL"},
		{"rtsp rtsp://127.0.0.1:http", misused, "invalid port"},
	} {
		t.Run(test.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(strings.Fields(test.args), &stdout, &stderr)
			if code != test.code || !strings.Contains(stderr.String(), test.says) {
				t.Errorf("exit code %d and %q; want %d and %q", code, stderr.String(), test.code, test.says)
			}
			if lines := strings.Count(stderr.String(), "\n"); code == unhealthy && lines != 1 || code == healthy && lines != 0 {
				t.Errorf("%d lines on stderr: %q", lines, stderr.String())
			}
			if stdout.Len() != 0 {
				t.Errorf("stdout: %q", stdout.String())
			}
		})
	}
}

func TestHelpIsNotAMistake(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"-h"}, {"http", "-h"}} {
		var stdout, stderr bytes.Buffer
		if code := run(args, &stdout, &stderr); code != healthy || stdout.String() != usage || stderr.Len() != 0 {
			t.Errorf("%q: exit code %d, %q, %q", args, code, stdout.String(), stderr.String())
		}
	}
}

// answer does what the path says.
func answer(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/204":
		w.WriteHeader(http.StatusNoContent)
	case "/503":
		w.WriteHeader(http.StatusServiceUnavailable)
	case "/redirect":
		http.Redirect(w, r, "/503", http.StatusFound)
	case "/cut":
		w.Header().Set("Content-Length", "100")
		w.Write([]byte("half of"))
	case "/slow":
		select {
		case <-r.Context().Done():
		case <-time.After(5 * time.Second):
		}
	}
}

// unusedAddress is one where nobody listens.
func unusedAddress(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// serve says the same to everybody who connects, and hangs up; if it has nothing to say, it stays silent.
func serve(t *testing.T, says string) string {
	return accept(t, func(connection net.Conn) {
		if says == "" {
			io.Copy(io.Discard, connection)
		}
		// Not before it was asked: data that nobody read would reset the connection.
		bufio.NewReader(connection).ReadString('\n')
		io.WriteString(connection, says)
	})
}

// accept lets talk have each connection, which is closed when it returns.
func accept(t *testing.T, talk func(net.Conn)) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				talk(connection)
			}()
		}
	}()
	return listener.Addr().String()
}

// full is an address whose queue is full: the kernel answers no one any more. listen(2)
func full(t *testing.T) string {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(socket) })
	if err := errors.Join(syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
		syscall.Listen(socket, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	for range 8 {
		connection, err := net.DialTimeout("tcp", address, 50*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { connection.Close() })
	}
	t.Fatal("the queue of " + address + " is never full")
	return ""
}

// serveRTSP does what the path says, and refuses what is not an OPTIONS request.
func serveRTSP(t *testing.T) string {
	answers := map[string]string{
		"*":               "RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: OPTIONS, SETUP\r\n\r\n",
		"/stream?track=1": "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n",
		"/described":      "RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 3\r\n\r\nyes",
		"/nothing":        "RTSP/1.0 404 Stream Not Found\r\nCSeq: 1\r\n\r\n",
		"/cut-line":       "RTSP/1.0 200",
		"/cut-header":     "RTSP/1.0 200 OK\r\nCSeq: 1\r\n",
		"/cut-body":       "RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 3\r\n\r\nye",
		"/endless":        "RTSP/1.0 200 OK\r\nCSeq: " + strings.Repeat("1", 1<<17),
		"/long":           "RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: long\r\n\r\n",
	}
	return accept(t, func(connection net.Conn) {
		reader := textproto.NewReader(bufio.NewReader(connection))
		line, _ := reader.ReadLine()
		header, err := reader.ReadMIMEHeader()
		words := strings.Fields(line)
		if err != nil || len(words) != 3 || words[0] != "OPTIONS" || words[2] != "RTSP/1.0" || header.Get("CSeq") == "" {
			io.WriteString(connection, "RTSP/1.0 400 Bad Request\r\n\r\n")
			return
		}
		path, isURL := strings.CutPrefix(words[1], "rtsp://"+connection.LocalAddr().String())
		if isURL == (path == "*") {
			path = "/nothing"
		}
		io.WriteString(connection, answers[path])
	})
}

// serveDNS knows one name, desimages.example, whose address is 192.0.2.1.
func serveDNS(t *testing.T) string {
	return answerDNS(t, func(reply []byte) []byte { return reply })
}

// garbled is no answer to the question.
func garbled(reply []byte) []byte {
	return bytes.Repeat([]byte{0xff}, len(reply))
}

// halved ends in the middle of the record of the address.
func halved(reply []byte) []byte {
	if records := reply[6:8]; bytes.Equal(records, []byte{0, 0}) {
		return reply
	}
	return reply[:len(reply)-3]
}

// answerDNS answers as changed; with nil it is silent. https://www.rfc-editor.org/rfc/rfc1035#section-4
func answerDNS(t *testing.T, changed func([]byte) []byte) string {
	connection, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	go func() {
		const header, response, nameError, typeA = 12, 0x8180, 3, 1
		for {
			packet := make([]byte, 512)
			n, client, err := connection.ReadFrom(packet)
			if err != nil {
				return
			}
			end := header + bytes.IndexByte(packet[header:n], 0) + 1
			reply := append([]byte{}, packet[:end+4]...)
			clear(reply[6:header]) // counts of what follows the question: none yet
			binary.BigEndian.PutUint16(reply[2:], response)
			switch {
			case !bytes.Equal(packet[header:end], []byte("\x09desimages\x07example\x00")):
				binary.BigEndian.PutUint16(reply[2:], response|nameError)
			case binary.BigEndian.Uint16(packet[end:]) == typeA:
				binary.BigEndian.PutUint16(reply[6:], 1)
				reply = append(reply, "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01"...)
			}
			if changed != nil {
				connection.WriteTo(changed(reply), client)
			}
		}
	}()
	return connection.LocalAddr().String()
}
