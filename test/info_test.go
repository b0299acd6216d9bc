package test

import (
	"bytes"
	"encoding"
	"encoding/json"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/rseq-go/rseq"
)

// TestInfoJSON: an Info is decoded from its JSON unchanged, and what is not known is null.
func TestInfoJSON(t *testing.T) {
	now, _ := rseq.Query()
	if now.Owner == rseq.OwnerNone {
		now.Offset = 0 // it is not encoded then
	}
	for _, info := range []rseq.Info{
		{}, now,
		{Owner: rseq.OwnerForeign, Via: "symbol", Libc: "glibc 2.41", Offset: -192, LibcSize: 0, Size: 28, RegisteredLen: 33,
			AlignRequired: 64, AlignActual: 128, Flags: 2, Signature: 0x53053053, KernelFeatureSize: 33, KernelAlign: 64,
			Confirmed: rseq.Confirmed, Features: rseq.FeatureCPUID | rseq.FeatureMMCID, Mode: rseq.ModeV2,
			CriticalSections: true, Reason: "a \"reason\"\n"},
	} {
		data, err := json.Marshal(info)
		if err != nil {
			t.Fatal(err)
		}
		var back rseq.Info
		if err := json.Unmarshal(data, &back); err != nil || back != info {
			t.Errorf("%s: %v\n got %+v\nwant %+v", data, err, back, info)
		}
	}
	data, _ := json.Marshal(rseq.Info{Owner: rseq.OwnerLibc, Signature: 0x53053053, Features: rseq.FeatureNodeID, Confirmed: rseq.CouldNotAsk})
	for _, want := range []string{`"owner":"libc"`, `"signature":"0x53053053"`, `"features":["node_id"]`, `"confirmation":"could not ask"`,
		`"offset":0`, `"registered_len":null`, `"mode":null`, `"kernel_feature_size":null`, `"libc_size":null`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s has no %s", data, want)
		}
	}
	for _, bad := range []string{`{"owner":"nobody"}`, `{"owner":1}`, `{"signature":"x"}`, `{"signature":"0x100000000"}`, `{"mode":"v3"}`, `{"features":"cpu_id"}`} {
		if err := json.Unmarshal([]byte(bad), &rseq.Info{}); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// TestText: a value with a name is encoded by that name in text, in JSON and in logs.
func TestText(t *testing.T) {
	for _, c := range []struct {
		value any
		back  encoding.TextUnmarshaler
		text  string
	}{
		{rseq.OwnerForeign, new(rseq.Owner), "foreign"},
		{rseq.CouldNotAsk, new(rseq.Confirmation), "could not ask"},
		{rseq.ModeV2, new(rseq.Mode), "v2"},
	} {
		data, err := json.Marshal(map[string]any{"x": c.value})
		if want := `{"x":"` + c.text + `"}`; err != nil || string(data) != want {
			t.Errorf("%s, %v: expected %s", data, err, want)
		}
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("", "x", c.value)
		slog.New(slog.NewTextHandler(&log, nil)).Info("", "y", c.value)
		if !strings.Contains(log.String(), `"x":"`+c.text+`"`) || !strings.Contains(log.String(), "y="+quoted(c.text)) {
			t.Errorf("%v is logged as %s", c.value, log.String())
		}
		if err := c.back.UnmarshalText([]byte(c.text)); err != nil || reflect.ValueOf(c.back).Elem().Interface() != c.value {
			t.Errorf("%q is read as %v, %v", c.text, c.back, err)
		}
		if err := c.back.UnmarshalText([]byte("nonsense")); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("nonsense is taken for %v: %v", c.back, err)
		}
	}
}

// quoted returns a value as slog's text handler prints it.
func quoted(text string) string {
	if strings.Contains(text, " ") {
		return `"` + text + `"`
	}
	return text
}
