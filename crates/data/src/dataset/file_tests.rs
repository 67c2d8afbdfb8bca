//! Contents of files: faults are named, Parquet columns are read.

use super::tests::{open, write};
use crate::config::{DataConfig, DataKind, ObjectiveConfig, ObjectiveKind, Paths, TokenizerConfig};

#[test]
fn faulty_files_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let of = |train: Paths| DataConfig { train, ..DataConfig::default() };
    let error = |data: &DataConfig| open(data, ObjectiveKind::NextToken, 8).unwrap_err().to_string();
    let cases = [
        (of("nowhere.txt".into()), "nowhere.txt: no such file or folder"),
        (of("nowhere/*.txt".into()), "nowhere/*.txt matches no file"),
        (of(write(folder.path(), "empty.txt", "")), "holds no text"),
        (of(write(folder.path(), "blank.txt", " \n\n")), "holds no text"),
        (of(write(folder.path(), "short.txt", "The fox jumps.")), "holds 5 tokens, and one window needs 9"),
        (of(write(folder.path(), "bad.txt", b"The f\xffx jumps")), "bad.txt: byte 5 is not valid UTF-8"),
        (of(write(folder.path(), "cut.txt", b"The fox \xc3")), "cut.txt: byte 8 is not valid UTF-8"),
        (
            DataConfig { kind: DataKind::Jsonl, ..of(write(folder.path(), "bad.jsonl", "{\"text\": 1}\n")) },
            "bad.jsonl:1: column \"text\" is 1",
        ),
        (
            DataConfig { kind: DataKind::Jsonl, ..of(write(folder.path(), "no.jsonl", "\nfox\n")) },
            "no.jsonl:2: ",
        ),
        (
            DataConfig { kind: DataKind::Csv, ..of(write(folder.path(), "no.csv", "text\na,b\n")) },
            "no.csv:2: 2 fields, and the header has 1",
        ),
        (
            DataConfig {
                kind: DataKind::Csv,
                ..of(write(folder.path(), "no8.csv", b"text,other\n\"a \"\"fox\"\"\",b\n\"\"\"\xff\",b\n"))
            },
            "no8.csv: byte 28 is not valid UTF-8",
        ),
        (
            DataConfig { kind: DataKind::Jsonl, ..of(write(folder.path(), "no8.jsonl", b"{}\n{\xff}\n")) },
            "no column \"text\"; it has none",
        ),
        (
            DataConfig {
                kind: DataKind::Jsonl,
                ..of(write(folder.path(), "no9.jsonl", b"{\"text\": \"a\"}\n{\xff}\n"))
            },
            "no9.jsonl: byte 15 is not valid UTF-8",
        ),
        (
            DataConfig {
                tokenizer: TokenizerConfig { vocab_size: Some(300), ..TokenizerConfig::default() },
                ..of(write(folder.path(), "empty2.txt", ""))
            },
            "holds no text",
        ),
        (of("[a".into()), "\"[a\" is not a glob"),
        (of(Paths::default()), "data.train: no training files"),
    ];
    for (data, wanted) in cases {
        let error = error(&data);
        assert!(error.contains(wanted), "{error}");
    }
    std::fs::create_dir(folder.path().join("none")).unwrap();
    let none = Paths(vec![folder.path().join("none").display().to_string()]);
    assert!(error(&of(none)).contains("matches no file"));
}

#[test]
fn parquet_is_refused_without_the_feature() {
    let data = DataConfig { kind: DataKind::Parquet, train: "a.parquet".into(), ..DataConfig::default() };
    let refused = data
        .issues(&ObjectiveConfig::default())
        .iter()
        .any(|issue| issue.message.contains("--features parquet"));
    assert_eq!(refused, !cfg!(feature = "parquet"));
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_columns_are_read() {
    use std::sync::Arc;

    use crate::cursor::Cursor;
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::writer::SerializedFileWriter;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let schema =
        "message rows { REQUIRED BYTE_ARRAY review (UTF8); OPTIONAL INT64 other; REQUIRED INT64 stars; }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let texts: Vec<ByteArray> = ["the fox", "the dog", "a fox"].map(ByteArray::from).to_vec();
    column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&[7], Some(&[0, 1, 0]), None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&[5, 1, 5], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    let mut data = DataConfig {
        kind: DataKind::Parquet,
        train: Paths(vec![path.display().to_string()]),
        text_column: Some("review".into()),
        label_column: Some("stars".into()),
        shuffle: false,
        ..DataConfig::default()
    };
    let dataset = open(&data, ObjectiveKind::Classify, 8).unwrap();
    let batch = dataset.batch(Cursor::default(), 3).unwrap();
    assert_eq!((batch.targets, dataset.labels()), (vec![1, 0, 1], &["1".to_owned(), "5".to_owned()][..]));
    assert_eq!(dataset.tokenizer().unwrap().decode(&batch.ids[..2], true).unwrap(), "the fox");
    data.text_column = None;
    let error = open(&data, ObjectiveKind::Classify, 8).unwrap_err().to_string();
    assert!(error.contains("no column \"text\"; it has review, other, stars"), "{error}");
}
