//! The command line of the demo.

use std::path::PathBuf;

use sardonyx::Select;

pub const HELP: &str = "\
Reads a page: finds its lines with a PP-OCR detector, reads them with a recogniser, and draws what it found.

usage: sardonyx-demo FOLDER [OPTIONS] [PICTURE]

  FOLDER          holds the models, as scripts/demo.sh fetches them
  PICTURE         a PNG, JPEG or WebP file with horizontal lines of text (default: FOLDER/page.png)
  --device NAME   auto, gpu, cpu (slow), an index, or a part of an adapter's name (default: auto)
  --out FILE.png  where the picture that shows all this goes (default: FOLDER/annotated.png)
  -h, --help      this text
";

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    Help,
    Read(Arguments),
}

#[derive(Debug)]
pub struct Arguments {
    pub folder: PathBuf,
    pub picture: PathBuf,
    pub device: Select,
    pub out: PathBuf,
}

/// Parses the arguments after the program's name.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Request, String> {
    let (mut device, mut out, mut paths) = (Select::Auto, None, Vec::new());
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{argument} needs a value; see --help"));
        match argument.as_str() {
            "-h" | "--help" => return Ok(Request::Help),
            "--device" => {
                device = match value()?.trim() {
                    "" => return Err("--device: is empty; auto is what is taken without it".into()),
                    name => name.parse().map_err(|error| format!("--device: {error}"))?,
                }
            }
            "--out" => out = Some(PathBuf::from(value()?)),
            option if option.starts_with('-') => {
                return Err(format!("there is no option {option}; see --help"));
            }
            _ => paths.push(PathBuf::from(argument)),
        }
    }
    let mut paths = paths.into_iter();
    let folder = paths.next().ok_or("the folder of the models is not given; see --help")?;
    let picture = paths.next().unwrap_or_else(|| folder.join("page.png"));
    if let Some(more) = paths.next() {
        return Err(format!("one picture at a time: {} is one too many", more.display()));
    }
    let out = out.unwrap_or_else(|| folder.join("annotated.png"));
    Ok(Request::Read(Arguments { folder, picture, device, out }))
}
