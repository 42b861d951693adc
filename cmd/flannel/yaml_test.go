package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write flannel.yaml anew")

const yamlPath = "../../flannel.yaml"

// TestYAML_IsTheDefaultsWithTheFieldsOwnWords keeps flannel.yaml complete, commented and equal to the defaults: it is
// written from them, and from the doc comments of the configuration's fields. go test ./cmd/flannel -run YAML -update.
func TestYAML_IsTheDefaultsWithTheFieldsOwnWords(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("# Every key of flannel with its default. Keys that are left out have it too; unknown keys are errors.\n" +
		"# An environment variable stands for each key (node.edge.listen: FLANNEL_NODE_EDGE_LISTEN), and flags win over both.\n" +
		"# Durations are written like 500ms, 2s, 10m; sizes are in bytes. flannel check config tells what is wrong with a file.\n")
	writeYAML(t, &b, reflect.ValueOf(defaultConfig()), "")

	if *update {
		if err := os.WriteFile(yamlPath, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(yamlPath)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, b.Bytes()) {
		t.Error("flannel.yaml is not what the defaults and the fields' comments say: run go test ./cmd/flannel -run YAML -update")
	}
	cfg, err := loadConfig(yamlPath, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(cfg, defaultConfig()) {
		t.Errorf("flannel.yaml loads as\n%+v\nthe defaults are\n%+v", cfg, defaultConfig())
	}
}

func writeYAML(t *testing.T, b *bytes.Buffer, v reflect.Value, indent string) {
	t.Helper()
	docs := fieldDocs(t, v.Type())
	// The comments say the fields' names in Go; the file's readers know the keys.
	var names []string
	for i := range v.NumField() {
		names = append(names, v.Type().Field(i).Name, v.Type().Field(i).Tag.Get("koanf"))
	}
	said := ""
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		key := field.Tag.Get("koanf")
		if key == "" {
			t.Errorf("%s.%s has no koanf tag", v.Type(), field.Name)
			continue
		}
		doc := docs[field.Name]
		if doc == "" && value.Kind() != reflect.Struct {
			t.Errorf("%s.%s has no comment", v.Type(), field.Name)
		}
		if indent == "" || value.Kind() == reflect.Struct {
			b.WriteByte('\n')
		}
		if doc == said { // Two keys under one comment.
			doc = ""
		} else {
			said = doc
		}
		doc = asKeys(doc, names)
		for line := range strings.SplitSeq(strings.TrimSpace(doc), "\n") {
			if line != "" {
				fmt.Fprintf(b, "%s# %s\n", indent, line)
			}
		}
		if value.Kind() == reflect.Struct {
			fmt.Fprintf(b, "%s%s:\n", indent, key)
			writeYAML(t, b, value, indent+"  ")
			continue
		}
		fmt.Fprintf(b, "%s%s: %s\n", indent, key, yamlValue(t, value))
	}
}

// asKeys replaces field names with their keys, as whole words.
func asKeys(doc string, names []string) string {
	for i := 0; i < len(names); i += 2 {
		doc = regexp.MustCompile(`\b`+names[i]+`\b`).ReplaceAllLiteralString(doc, names[i+1])
	}
	return doc
}

func yamlValue(t *testing.T, v reflect.Value) string {
	t.Helper()
	switch x := v.Interface().(type) {
	case time.Duration:
		// 10m0s reads worse than 10m.
		s := x.String()
		if strings.HasSuffix(s, "m0s") {
			s = strings.TrimSuffix(s, "0s")
		}
		if strings.HasSuffix(s, "h0m") {
			s = strings.TrimSuffix(s, "0m")
		}
		return s
	case string:
		return fmt.Sprintf("%q", x)
	case []string:
		quoted := make([]string, len(x))
		for i, s := range x {
			quoted[i] = fmt.Sprintf("%q", s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	case bool, int, int64, float64:
		return fmt.Sprint(x)
	default:
		t.Fatalf("a configuration value of type %s", v.Type())
		return ""
	}
}

func isDuration(e ast.Expr) bool {
	sel, ok := e.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "Duration"
}

// fieldDocs returns the doc comments of a struct's fields. Two fields under one comment share it.
func fieldDocs(t *testing.T, typ reflect.Type) map[string]string {
	t.Helper()
	dir := "."
	if rest, ok := strings.CutPrefix(typ.PkgPath(), "flannel/"); ok && rest != "cmd/flannel" {
		dir = filepath.Join("..", "..", rest)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	docs := make(map[string]string)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != typ.Name() {
				return true
			}
			last := ""
			for _, field := range spec.Type.(*ast.StructType).Fields.List {
				doc := field.Doc.Text() + field.Comment.Text()
				if doc == "" { // A line right under another shares its comment, unless it is a section.
					if _, section := field.Type.(*ast.SelectorExpr); !section || isDuration(field.Type) {
						doc = last
					}
				}
				last = doc
				for _, name := range field.Names {
					docs[name.Name] = doc
				}
			}
			return false
		})
	}
	return docs
}
