// Writes the sessions of go.json, and reads those of ours.json: see README.md.
package main

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/boj/redistore"
	"github.com/gorilla/sessions"
)

type User struct {
	ID      int64
	Name    string
	Level   uint8
	Tags    []string
	Created time.Time
}

// What an application registers at its start.
func register() {
	gob.Register(time.Time{})
	gob.Register(User{})
	gob.Register([]string{})
	gob.Register(map[string]int{})
	gob.Register([]interface{}{})
	gob.Register(map[string]interface{}{})
	gob.Register(map[int]interface{}{})
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// As scs.GobCodec encodes: a gob of a struct without a name, of these two fields.
func scsEncode(deadline time.Time, values map[string]interface{}) []byte {
	session := &struct {
		Deadline time.Time
		Values   map[string]interface{}
	}{deadline, values}
	var out bytes.Buffer
	must(gob.NewEncoder(&out).Encode(&session))
	return out.Bytes()
}

// What scs reads just as well: fields have names, and those that it does not know are passed over.
func otherOrder(deadline time.Time, values map[string]interface{}) []byte {
	var out bytes.Buffer
	must(gob.NewEncoder(&out).Encode(struct {
		Values   map[string]interface{}
		Note     string
		Deadline time.Time
	}{values, "kept", deadline}))
	return out.Bytes()
}

func scsDecode(data []byte) (time.Time, map[string]interface{}) {
	session := &struct {
		Deadline time.Time
		Values   map[string]interface{}
	}{}
	must(gob.NewDecoder(bytes.NewReader(data)).Decode(&session))
	if session.Values == nil {
		panic("scs panics at the next Put: Values is nil")
	}
	return session.Deadline, session.Values
}

func gorillaEncode(values map[interface{}]interface{}) []byte {
	out, err := redistore.GobSerializer{}.Serialize(&sessions.Session{Values: values})
	must(err)
	return out
}

func gorillaDecode(data []byte) map[interface{}]interface{} {
	session := sessions.Session{Values: map[interface{}]interface{}{}}
	must(redistore.GobSerializer{}.Deserialize(data, &session))
	return session.Values
}

type Entry struct {
	Key     string `json:"key"`
	KeyType string `json:"key_type"`
	Type    string `json:"type"`
	Value   string `json:"value"`
}

type Sample struct {
	Library  string  `json:"library"`
	Name     string  `json:"name"`
	Hex      string  `json:"hex"`
	Deadline string  `json:"deadline,omitempty"`
	Values   []Entry `json:"values"`
}

// What Go decodes from the bytes: each value as %v prints it, maps sorted by their keys.
func describe(library, name string, data []byte) Sample {
	sample := Sample{Library: library, Name: name, Hex: hex.EncodeToString(data), Values: []Entry{}}
	add := func(key, value interface{}) {
		text := fmt.Sprintf("%v", value)
		if time, ok := value.(time.Time); ok {
			text = time.Format("2006-01-02T15:04:05.999999999Z07:00")
		}
		sample.Values = append(sample.Values, Entry{fmt.Sprint(key), fmt.Sprintf("%T", key), fmt.Sprintf("%T", value), text})
	}
	if library == "scs" {
		deadline, values := scsDecode(data)
		sample.Deadline = deadline.Format(time.RFC3339Nano)
		for key, value := range values {
			add(key, value)
		}
	} else {
		for key, value := range gorillaDecode(data) {
			add(key, value)
		}
	}
	sort.Slice(sample.Values, func(a, b int) bool { return sample.Values[a].Key < sample.Values[b].Key })
	return sample
}

func write(samples []Sample) {
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	out.SetIndent("", " ")
	must(out.Encode(samples))
}

func encode() {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC)
	user := User{ID: 7, Name: "bob", Level: 3, Tags: []string{"a", "b"}, Created: noon}
	kinds := map[string]interface{}{
		"bool": true, "int": int(-42), "int64": int64(1) << 40, "int8": int8(-8), "uint": uint(7), "uint64": ^uint64(0),
		"float64": 3.25, "float32": float32(0.1), "string": "zh-CN", "bytes": []byte{0, 255}, "time": noon,
		"strings": []string{"x", "y"}, "counts": map[string]int{"tea": 2}, "user": user,
		"list": []interface{}{1, "a", nil}, "map": map[string]interface{}{"k": 1.5}, "by id": map[int]interface{}{7: "seven"},
	}
	any := map[interface{}]interface{}{"user": user, "_flash": []interface{}{"saved", user}, 5: "int", int64(5): "int64", true: "yes"}
	for key, value := range kinds {
		if key != "user" {
			any[key] = value
		}
	}
	shanghai := time.FixedZone("", 8*3600)
	one := map[string]interface{}{"username": "astaxie"}
	var samples []Sample
	scs := func(name string, deadline time.Time, values map[string]interface{}) {
		samples = append(samples, describe("scs", name, scsEncode(deadline, values)))
	}
	gorilla := func(name string, values map[interface{}]interface{}) {
		samples = append(samples, describe("gorilla", name, gorillaEncode(values)))
	}
	scs("one", noon.Add(24*time.Hour), one)
	scs("empty", noon.Add(24*time.Hour), map[string]interface{}{})
	scs("kinds", noon.Add(24*time.Hour), kinds)
	scs("expired", time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), one)
	scs("offset", noon.In(shanghai), one)
	scs("no deadline", time.Time{}, one)
	samples = append(samples, describe("scs", "other order", otherOrder(noon, one)))
	gorilla("one", map[interface{}]interface{}{"username": "astaxie"})
	gorilla("empty", map[interface{}]interface{}{})
	gorilla("kinds", any)
	write(samples)
}

// Lines of library, name and hex, separated by tabs; other lines are passed over.
func decode() {
	var samples []Sample
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		parts := strings.Split(lines.Text(), "\t")
		if len(parts) == 3 {
			data, err := hex.DecodeString(parts[2])
			must(err)
			samples = append(samples, describe(parts[0], parts[1], data))
		}
	}
	write(samples)
}

func main() {
	register()
	if os.Args[1] == "write" {
		encode()
	} else {
		decode()
	}
}
